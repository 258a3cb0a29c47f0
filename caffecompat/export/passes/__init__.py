"""Graph passes: functions from one :class:`caffecompat.export.model.CaffeModel` to another."""
