TICKET = ()
