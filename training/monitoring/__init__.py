"""What a person sees of a run: TensorBoard, pictures, the page."""
