"""An example plugin for openfoldpp: it adds a flag and writes a file beside every prediction."""

from openfoldpp.files import write_text
from openfoldpp.plugins import hookimpl


class Hello:
    """Write a greeting beside every prediction."""

    @hookimpl
    def openfoldpp_add_options(self, parser):
        """Add the plugin's flag."""
        parser.add_argument("--hello_name", default="world", help="whom to greet (default: %(default)s)")

    @hookimpl
    def openfoldpp_configure(self, config, options):
        """Keep what the user asked for."""
        self.greeting = f"Hello {options.hello_name}"

    @hookimpl
    def openfoldpp_write_outputs(self, output, target, paths):
        """Write TAG_PRESET_hello.txt."""
        text = f"{self.greeting}, {target.tag} has {len(target.sequence)} residues.\n"
        write_text(paths.file("hello.txt"), text)


plugin = Hello()
