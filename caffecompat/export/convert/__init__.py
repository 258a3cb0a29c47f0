"""The work of ``caffecompat convert``: forms, files beside a target, lines for the user."""
