"""From a command to files: options, pipeline, predictions, outputs."""
