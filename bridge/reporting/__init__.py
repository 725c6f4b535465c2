"""The report's room: how what came out compares with what went in, as figures, pictures and one page."""
