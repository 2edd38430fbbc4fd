//! What each key does.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::{App, Mode, Wish};
use crate::top::asking::Question;
use crate::top::row::Row;

/// The most bytes that can be typed.
const TYPED: usize = 1000;

/// A change of a row: the question to the control port, and the one to the user; or why it cannot be made.
type Change = fn(&App, &Row) -> Result<(Question, String), String>;

impl App {
    /// Takes in a key.
    pub(in crate::top) fn press(&mut self, key: KeyEvent) -> Option<Wish> {
        if key.kind == KeyEventKind::Release {
            return None;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Some(Wish::Leave),
                KeyCode::Char('z') => Some(Wish::Suspend),
                KeyCode::Char('u') => {
                    self.input().map(String::clear);
                    None
                }
                _ => None,
            };
        }
        self.said = None;
        match self.mode {
            Mode::Table => self.press_in_table(key.code),
            Mode::Filter { .. } | Mode::Id { .. } | Mode::Token { .. } => self.press_in_input(key.code),
            Mode::Confirm { .. } => self.press_in_confirm(key.code),
            Mode::Text { .. } | Mode::Incidents | Mode::Help => self.press_in_text(key.code),
        }
    }

    /// Takes in text that was pasted. It is never a command.
    pub(in crate::top) fn paste(&mut self, text: &str) {
        text.chars().for_each(|letter| self.write(letter));
    }

    fn press_in_table(&mut self, code: KeyCode) -> Option<Wish> {
        match code {
            KeyCode::Char('q') => return Some(Wish::Leave),
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('r') => self.is_reversed = !self.is_reversed,
            KeyCode::Char('/') => self.mode = Mode::Filter { before: self.filter.clone() },
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('i') => (self.mode, self.scroll) = (Mode::Incidents, 0),
            KeyCode::Char('?' | 'h') => (self.mode, self.scroll) = (Mode::Help, 0),
            KeyCode::Char('e') => self.mode = Mode::Id { typed: std::mem::take(&mut self.last_id) },
            KeyCode::Char('k') => self.confirm(App::kill),
            KeyCode::Char('d') => self.confirm(App::drain),
            code => self.walk(code),
        }
        None
    }

    /// Moves the selection.
    fn walk(&mut self, code: KeyCode) {
        let shown = self.shown();
        let Some(at) = self.selected(&shown) else { return };
        let (last, page) = (shown.len() - 1, self.page.max(1));
        let next = match code {
            KeyCode::Up => at.saturating_sub(1),
            KeyCode::Down => last.min(at + 1),
            KeyCode::PageUp => at.saturating_sub(page),
            KeyCode::PageDown => last.min(at + page),
            KeyCode::Home => 0,
            KeyCode::End => last,
            _ => return,
        };
        let key = shown[next].key.clone();
        (self.selected, self.at) = (Some(key), next);
    }

    /// Asks whether a change of the selected row is meant.
    fn confirm(&mut self, change: Change) {
        let shown = self.shown();
        let Some(row) = self.selected(&shown).map(|at| shown[at].clone()) else { return };
        let place = self.selected(&shown);
        if self.is_busy {
            return self.say("the last command has no answer yet".to_owned(), true);
        }
        match change(self, &row) {
            Ok((question, text)) => {
                // The row stays selected, wherever it goes meanwhile.
                (self.selected, self.at) = (Some(row.key), place.unwrap_or_default());
                self.mode = Mode::Confirm { question, text };
            }
            Err(why) => self.say(why, true),
        }
    }

    fn kill(&self, row: &Row) -> Result<(Question, String), String> {
        let Row { hostname, open, .. } = row;
        let Some(carrier) = &row.carrier else {
            return Err(format!(
                "{hostname} was not started by lb, or does not run: it cannot be killed here"
            ));
        };
        let cut = match open {
            0 => String::new(),
            1 => " Its open connection is cut.".to_owned(),
            open => format!(" Its {open} open connections are cut."),
        };
        let slot = row.slot.as_deref().map_or_else(String::new, |slot| format!(" in slot {slot}"));
        let text = format!(
            "Kill {hostname} ({carrier}){slot}? It ends at once.{cut} lb starts a successor, and the keys come home."
        );
        Ok((Question::Kill(hostname.clone()), text))
    }

    /// Weight 0, as on the page; or the weight from before.
    fn drain(&self, row: &Row) -> Result<(Question, String), String> {
        let Some(slot) = row.slot.clone() else {
            return Err(format!("{} is a spare, and has no keys to lose", row.hostname));
        };
        if row.weight.get() == 0 {
            let weight = self.drained.get(&slot).copied().unwrap_or_default();
            let text = format!("Give slot {slot} the weight {weight} again? It gets new connections then.");
            return Ok((Question::Weigh(slot, weight.get()), text));
        }
        let open = row.open;
        let text = format!(
            "Drain slot {slot}? It gets the weight 0: no new connections. Those that are open ({open}) go on, and the slot stays."
        );
        Ok((Question::Weigh(slot, 0), text))
    }

    fn press_in_confirm(&mut self, code: KeyCode) -> Option<Wish> {
        let Mode::Confirm { question, .. } = std::mem::replace(&mut self.mode, Mode::Table) else {
            return None;
        };
        if code != KeyCode::Char('y') {
            self.say("nothing was done".to_owned(), false);
            return None;
        }
        if let Question::Weigh(slot, 0) = &question {
            let weight = self.rows.iter().find(|row| row.slot.as_ref() == Some(slot)).map(|row| row.weight);
            self.drained.extend(weight.map(|weight| (slot.clone(), weight)));
        }
        Some(self.ask(question))
    }

    fn ask(&mut self, question: Question) -> Wish {
        self.is_busy = true;
        self.say("waits for the answer".to_owned(), false);
        Wish::Ask(question)
    }

    fn press_in_input(&mut self, code: KeyCode) -> Option<Wish> {
        match code {
            KeyCode::Char(letter) => self.write(letter),
            KeyCode::Backspace => drop(self.input().and_then(String::pop)),
            KeyCode::Esc => match std::mem::replace(&mut self.mode, Mode::Table) {
                Mode::Filter { before } => self.filter = before,
                Mode::Token { .. } => return Some(Wish::Leave),
                _ => {}
            },
            KeyCode::Enter => return self.submit(),
            code if matches!(self.mode, Mode::Filter { .. }) => self.walk(code),
            _ => {}
        }
        None
    }

    fn submit(&mut self) -> Option<Wish> {
        match std::mem::replace(&mut self.mode, Mode::Table) {
            Mode::Id { typed } if !typed.is_empty() => {
                self.last_id.clone_from(&typed);
                if self.is_busy {
                    self.say("the last command has no answer yet".to_owned(), true);
                    return None;
                }
                Some(self.ask(Question::Explain(typed)))
            }
            Mode::Token { typed, .. } if !typed.is_empty() => Some(Wish::Prove(typed)),
            mode @ Mode::Token { .. } => {
                self.mode = mode;
                None
            }
            _ => None,
        }
    }

    fn write(&mut self, letter: char) {
        if let Some(input) = self.input().filter(|input| input.len() < TYPED)
            && !letter.is_control()
        {
            input.push(letter);
        }
    }

    /// What is being typed.
    fn input(&mut self) -> Option<&mut String> {
        match &mut self.mode {
            Mode::Filter { .. } => Some(&mut self.filter),
            Mode::Id { typed } | Mode::Token { typed, .. } => Some(typed),
            Mode::Table | Mode::Confirm { .. } | Mode::Text { .. } | Mode::Incidents | Mode::Help => None,
        }
    }

    fn press_in_text(&mut self, code: KeyCode) -> Option<Wish> {
        let page = self.page.max(1);
        match code {
            KeyCode::Up => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::Down => self.scroll = self.scroll.saturating_add(1),
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(page),
            KeyCode::PageDown => self.scroll = self.scroll.saturating_add(page),
            KeyCode::Home => self.scroll = 0,
            KeyCode::End => self.scroll = usize::MAX,
            _ => self.mode = Mode::Table,
        }
        None
    }
}
