"""The two test protocols of the VGG paper's Appendix A.1, one file each."""
