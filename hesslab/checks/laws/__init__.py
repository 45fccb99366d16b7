"""Laws, one file a room: functions that take your implementation and name the likely mistake."""
