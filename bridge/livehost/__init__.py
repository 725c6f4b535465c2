"""The live companion's parent: starts the live process and the generator, writes every file, shows what goes on."""
