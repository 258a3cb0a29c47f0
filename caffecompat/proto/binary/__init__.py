"""Binary nets: fields by number, and which Caffe's schema they follow."""
