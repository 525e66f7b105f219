"""The region API that users of dogpile.cache know; its place in the layers."""
