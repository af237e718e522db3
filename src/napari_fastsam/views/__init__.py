"""What the user sees: Qt widgets that show the session and call the controllers."""
