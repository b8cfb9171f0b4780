"""Policies for others: a card that says what one is, and the Hugging Face hub."""
