"""Studies: many recipes and seeds carried out, and what they come to in one result."""
