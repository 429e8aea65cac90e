"""Who may use the application: accounts, passwords, sign-ins and what each role may do."""
