"""Generators whose samples come with exact answers to measure a reconstruction against."""
