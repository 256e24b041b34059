"""Hostile calls of jaxgeo's public functions, and what may come of them.

Every case ends in one of three ways, or has found a bug: jaxgeo refuses it by an error of its
own that quotes what it was given; the result says that it failed, by a code or by NaN; or the
answer is right by an oracle. Cases are drawn by a random generator, so a campaign is its seed.
"""
