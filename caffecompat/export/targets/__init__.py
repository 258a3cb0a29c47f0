"""The forms that ``caffecompat convert`` writes, one file each; ``base.py`` is their class."""
