"""A believable mlops database: crawled cover letters and job postings with known duplicates."""
