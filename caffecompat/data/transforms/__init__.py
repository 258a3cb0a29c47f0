"""What happens to a decoded image on its way to a batch."""
