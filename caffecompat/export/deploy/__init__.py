"""From the definition that a net is trained with to the one that it is used with."""
