"""Failing writes and sudden deaths of the commands: nothing is lost, and the next call goes on."""
