"""Data: `layouts` find labelled samples, `decode` reads each once, `anomaly_data` splits and serves whole batches."""
