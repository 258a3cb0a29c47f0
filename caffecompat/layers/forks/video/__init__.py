"""Layer types of clips of video (C3D, action recognition)."""
