"""Plan a training (`overtile plan`): data set -> commented config that fits in the given memory and time."""
