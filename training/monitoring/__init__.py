"""Monitoring of a run: progress bar, TensorBoard, history, pictures and the page `report.html`."""
