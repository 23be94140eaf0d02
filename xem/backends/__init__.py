"""All that is known of array backends."""
