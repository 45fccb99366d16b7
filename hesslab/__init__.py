"""hesslab: curvature of toy problems and of networks, every number with its error."""
