"""Many runs, and many processes of one run."""
