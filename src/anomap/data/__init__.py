"""Data: `layouts` find labelled samples, `decode` reads each once, `datamodule` splits and serves whole batches."""
