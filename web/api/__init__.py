"""The public JSON API: orders, products, sagas, health. Views are thin; rules are elsewhere."""
