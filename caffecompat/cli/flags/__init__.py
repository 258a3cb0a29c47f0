"""How the words of a command line become arguments: Caffe's spellings, flag files, any order."""
