"""`overtile check`: fourteen questions to a run before hours go into it."""
