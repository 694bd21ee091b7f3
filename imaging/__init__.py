"""Files <-> arrays: sources read images, writers write masks, both keep the geometry."""
