"""Data: folders and files become labelled samples, decoded once, served as whole batches.

`layouts` know where a data set keeps its normal and abnormal images; `images` decodes one file; `decode` all
of them; `datamodule` splits, serves and augments. `build.build_datamodule` makes it from a config.
"""
