"""Resuming: everything that lets a run that was stopped or killed end with the weights of an uninterrupted one."""
