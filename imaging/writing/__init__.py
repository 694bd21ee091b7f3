"""Writers of masks, probabilities and values, band by band."""
