"""One file per kind of layout, see `anomap.data.samples.Layout`."""
