"""Data to HTML, SVG and text: pure renderers."""
