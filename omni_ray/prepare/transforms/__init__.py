"""From raw records to samples, or to the reason for which there is none."""
