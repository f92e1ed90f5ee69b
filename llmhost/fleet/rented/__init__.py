"""Machines rented by the hour: found, rented, booted, watched and ended, so that none is ever forgotten."""
