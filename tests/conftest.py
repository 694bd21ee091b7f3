"""What holds for all tests."""

from hypothesis import settings

settings.register_profile("overtile", deadline=None)  # a busy machine is no defect
settings.load_profile("overtile")
