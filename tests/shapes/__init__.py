"""How usage goes in 30 days, and how good forecasts are about it."""
