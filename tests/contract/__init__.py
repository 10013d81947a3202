"""What every public function promises, and examples of them all."""
