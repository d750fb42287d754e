"""From result files to what a person decides by: tables, plots, and the pages that hold them."""
