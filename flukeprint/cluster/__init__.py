"""Stages of the pipeline, run by other machines that share no folder with this one."""
