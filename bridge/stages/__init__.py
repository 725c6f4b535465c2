"""The stages of the pipeline, one file each. No stage imports another."""
