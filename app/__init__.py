"""The application: composes engine, viewers and i18n; the only package that knows the others."""
