"""What all HTML pages share: templates, charts, thumbnails."""
