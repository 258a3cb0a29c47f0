"""The forms that ``caffecompat convert`` writes, one file each; see caffecompat.export.target."""
