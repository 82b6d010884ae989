"""The routes of an application, and which options and guards hold on each."""
