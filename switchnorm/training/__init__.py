"""What a run needs besides its task: configuration, folder, optimizer, schedules, callbacks."""
