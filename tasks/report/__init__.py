"""Sections of the report on a session, from records and products to HTML; `report_session` puts them together."""
