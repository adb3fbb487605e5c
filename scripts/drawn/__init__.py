"""The families of drawn surfaces behind `scripts/textures.py`: one file each, and what they share."""
