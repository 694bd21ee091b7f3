"""`overtile plan`: a data set -> a config that explains itself, within memory and time."""
